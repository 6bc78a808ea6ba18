"""Several instances as one server, with rooms, topics and users in Redis or Valkey (`REDIS_URL`)."""
