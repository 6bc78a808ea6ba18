"""The domain of one inbox: what messages change, what they read, and the interface of a store."""
