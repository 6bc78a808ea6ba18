-- Read rooms and one mailbox.
-- ARGV: 3 the room and 4 the peer of the mailbox, then the rooms.
-- Returns {'ok', time in milliseconds, 1 while no client may join, number of absent peers, number and bytes of the
-- mailbox, its messages, version and record of each room}, or a refusal.
local why = refusal()
if why then return {why} end
local room, peer = ARGV[3], ARGV[4]
local counts = redis.call('HMGET', P .. 'room:' .. room, 'n:' .. peer, 'b:' .. peer)
local rooms = {}
for i = 5, #ARGV do
  rooms[#rooms + 1] = redis.call('HMGET', P .. 'room:' .. ARGV[i], 'v', 'd')
end
return {
  'ok',
  now(),
  redis.call('EXISTS', P .. 'filling'),
  redis.call('ZCARD', P .. 'away'),
  tonumber(counts[1] or 0),
  tonumber(counts[2] or 0),
  redis.call('LRANGE', P .. 'box:' .. place(room, peer), 0, -1),
  rooms,
}
