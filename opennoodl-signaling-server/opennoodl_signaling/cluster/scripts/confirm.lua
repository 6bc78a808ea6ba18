-- Delete the messages of a mailbox that its peer has received.
-- ARGV: 3 the room, 4 the peer, 5 its connection, 6 the number of the last received message.
-- Returns 'ok', also if the peer has another connection now, or a refusal.
local why = refusal()
if why then return why end
local route = redis.call('HGET', P .. 'room:' .. ARGV[3], 'p:' .. ARGV[4])
local instance, connection = string.match(route or '', '^(%S+) (%d+)')
if instance == ARGV[1] and connection == ARGV[5] then drop(ARGV[3], ARGV[4], ARGV[6]) end
return 'ok'
