-- Renew the lease of this instance.
-- ARGV: 3 milliseconds of a lease; 4 is 1 if other instances may be swept; 5 the last entry that this instance has
--   read.
-- Returns {'ok', dead instances, at most 100 absent peers whose grace is over, milliseconds for which no client may
-- join, number of absent peers, bytes of all mailboxes, number of instances}, or a refusal.
local why = refusal()
if why then return {why} end
local time = now()
redis.call('ZADD', P .. 'instances', time + ARGV[3], ARGV[1])
redis.call('XTRIM', P .. 'stream:' .. ARGV[1], 'MINID', ARGV[5])
if ARGV[4] == '1' then
  for _, instance in ipairs(redis.call('ZRANGEBYSCORE', P .. 'instances', '-inf', time)) do
    redis.call('ZREM', P .. 'instances', instance)
    redis.call('SADD', P .. 'dead', instance)
    redis.call('DEL', P .. 'stream:' .. instance, P .. 'number:' .. instance)
  end
end
return {
  'ok',
  redis.call('SMEMBERS', P .. 'dead'),
  redis.call('ZRANGEBYSCORE', P .. 'away', '-inf', time, 'LIMIT', 0, 100),
  math.max(redis.call('PTTL', P .. 'filling'), 0),
  redis.call('ZCARD', P .. 'away'),
  tonumber(redis.call('GET', P .. 'bytes') or 0),
  redis.call('ZCARD', P .. 'instances'),
}
