-- Delete the users and topics of a dead instance, after other transactions have removed its peers from all rooms.
-- ARGV: 3 the dead instance.
-- Returns {'ok', rooms}: at most 100 rooms that still have peers of the dead instance; while there are any, nothing is
-- deleted. Or a refusal.
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
