"""The pages that only this server has: requests over HTTP about rooms, by tokens with `services`."""
