-- Unsubscribe a connection from topics.
-- ARGV: 3 the connection, 4 the number of topics to which it is subscribed, these topics, then the topics for which it
--   waits.
-- Returns 'ok', or a refusal.
local why = refusal()
if why then return why end
for i = 5, #ARGV do
  local topic = ARGV[i]
  redis.call('ZREM', P .. 'waiting:' .. topic, ARGV[1] .. ' ' .. ARGV[3])
  redis.call('SREM', P .. 'waits:' .. ARGV[1], ARGV[3] .. ' ' .. topic)
  if i < 5 + ARGV[4] then
    count('topic', topic, ARGV[1], -1)
    offer(topic)
  end
end
return 'ok'
