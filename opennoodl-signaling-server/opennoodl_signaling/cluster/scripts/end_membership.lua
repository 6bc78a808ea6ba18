-- End the membership of this instance. ARGV: instance, generation. What is left of it is swept by others, or by nobody
-- if it was the last.
local why = refusal()
if why then return {why} end
redis.call('ZREM', P .. 'instances', ARGV[1])
redis.call('SADD', P .. 'dead', ARGV[1])
redis.call('DEL', P .. 'stream:' .. ARGV[1], P .. 'number:' .. ARGV[1])
return {'ok'}
