-- Subscribe a connection to topics.
-- ARGV: 3 the connection; 4 the most subscribers of a topic, 0 for no limit; then the topics.
-- Returns {'ok', then 'ok' or 'full' for each topic}, {'filling'} while no client may join, or a refusal.
--
-- The connection waits for each full topic. An entry in the stream of this instance marks the place from which on the
-- connection gets published messages.
local why = refusal()
if why then return {why} end
if redis.call('EXISTS', P .. 'filling') == 1 then return {'filling'} end
local most, outcomes = tonumber(ARGV[4]), {'ok'}
local waiter = ARGV[1] .. ' ' .. ARGV[3]
for i = 5, #ARGV do
  local topic = ARGV[i]
  if most > 0 and total(P .. 'topic:' .. topic) >= most then
    redis.call('ZADD', P .. 'waiting:' .. topic, 'NX', redis.call('INCR', P .. 'versions'), waiter)
    redis.call('SADD', P .. 'waits:' .. ARGV[1], ARGV[3] .. ' ' .. topic)
    outcomes[i - 3] = 'full'
  else
    redis.call('ZREM', P .. 'waiting:' .. topic, waiter)
    redis.call('SREM', P .. 'waits:' .. ARGV[1], ARGV[3] .. ' ' .. topic)
    count('topic', topic, ARGV[1], 1)
    push(ARGV[1], cmsgpack.pack({'subscribed', tonumber(ARGV[3]), topic}))
    outcomes[i - 3] = 'ok'
  end
end
return outcomes
