-- Change rooms in one step, if nobody has changed them since they were read.
-- ARGV: 3 to 5 the room, peer and number of the mailbox that was read; 6 the number of rooms that were read; then room
--   and version of each; then the changes, each as its name, the number of its arguments, and its arguments.
-- Returns 'ok', 'conflict' if a room or the mailbox has changed, or a refusal.
local why = refusal()
if why then return why end
if (redis.call('HGET', P .. 'room:' .. ARGV[3], 'n:' .. ARGV[4]) or '0') ~= ARGV[5] then return 'conflict' end
local at = 7
for _ = 1, tonumber(ARGV[6]) do
  if (redis.call('HGET', P .. 'room:' .. ARGV[at], 'v') or '') ~= ARGV[at + 1] then return 'conflict' end
  at = at + 2
end
local version = redis.call('INCR', P .. 'versions')
local make = {
  room = function(name, data) redis.call('HSET', P .. 'room:' .. name, 'v', version, 'd', data) end,
  gone = function(name) redis.call('DEL', P .. 'room:' .. name) end,
  route = function(name, peer, route) redis.call('HSET', P .. 'room:' .. name, 'p:' .. peer, route) end,
  unroute = function(name, peer) redis.call('HDEL', P .. 'room:' .. name, 'p:' .. peer) end,
  has = function(instance, name) redis.call('SADD', P .. 'rooms:' .. instance, name) end,
  hasnt = function(instance, name) redis.call('SREM', P .. 'rooms:' .. instance, name) end,
  away = function(name, peer, till) redis.call('ZADD', P .. 'away', till, place(name, peer)) end,
  back = function(name, peer) redis.call('ZREM', P .. 'away', place(name, peer)) end,
  user = function(instance, name, number) recount('user', name, instance, number) end,
  log = log_message,
  drop = drop,
  wipe = wipe,
  push = push,
}
while at <= #ARGV do
  local last = at + 1 + tonumber(ARGV[at + 1])
  make[ARGV[at]](unpack(ARGV, at + 2, last))
  at = last + 1
end
return 'ok'
