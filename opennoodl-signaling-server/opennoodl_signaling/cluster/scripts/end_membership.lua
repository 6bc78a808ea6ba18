-- End the membership of this instance. Other instances then sweep its clients. The last instance leaves them.
-- Returns {'ok'}, or a refusal.
local why = refusal()
if why then return {why} end
redis.call('ZREM', P .. 'instances', ARGV[1])
redis.call('SADD', P .. 'dead', ARGV[1])
redis.call('DEL', P .. 'stream:' .. ARGV[1], P .. 'number:' .. ARGV[1])
return {'ok'}
