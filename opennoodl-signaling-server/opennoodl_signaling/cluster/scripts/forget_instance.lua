-- Forget a dead instance. ARGV: instance, generation, the dead one. Its users and topics go with the last of its
-- rooms; those are left in transactions of their own. Return its rooms that are left.
local why = refusal()
if why then return {why} end
local dead = ARGV[3]
local rooms = redis.call('SRANDMEMBER', P .. 'rooms:' .. dead, 100)
if #rooms > 0 then return {'ok', rooms} end
for _, name in ipairs(redis.call('SMEMBERS', P .. 'users:' .. dead)) do
  redis.call('HDEL', P .. 'user:' .. name, dead)
end
for _, name in ipairs(redis.call('SMEMBERS', P .. 'topics:' .. dead)) do
  redis.call('HDEL', P .. 'topic:' .. name, dead)
  offer(name)
end
for _, name in ipairs(redis.call('SMEMBERS', P .. 'waits:' .. dead)) do
  local connection, topic = string.match(name, '^(%d+) (.*)$')
  redis.call('ZREM', P .. 'waiting:' .. topic, dead .. ' ' .. connection)
end
redis.call('DEL', P .. 'users:' .. dead, P .. 'topics:' .. dead, P .. 'waits:' .. dead, P .. 'rooms:' .. dead)
redis.call('SREM', P .. 'dead', dead)
return {'ok', {}}
