-- A peer has received what it was told up to a number. ARGV: instance, generation, room, peer, connection, number.
local why = refusal()
if why then return why end
local route = redis.call('HGET', P .. 'room:' .. ARGV[3], 'p:' .. ARGV[4])
local instance, connection = string.match(route or '', '^(%S+) (%d+)')
if instance == ARGV[1] and connection == ARGV[5] then drop(ARGV[3], ARGV[4], ARGV[6]) end
return 'ok'
