"""The load test: an operator's own deployment under the load of many people."""
