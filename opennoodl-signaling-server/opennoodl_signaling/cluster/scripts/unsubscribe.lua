-- Unsubscribe a connection. ARGV: instance, generation, connection, number of topics that it is subscribed to, those,
-- then those that it waits for.
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
