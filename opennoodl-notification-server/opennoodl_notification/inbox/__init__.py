"""The domain of one inbox: the changes and the reads of messages, and the interface of a store."""
