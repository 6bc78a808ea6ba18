"""Several instances as one server: rooms, topics and users are in Redis or Valkey (`REDIS_URL`)."""
