-- Publish to a topic. ARGV: instance, generation, topic, most subscribers (0 means any number), 1 if the publisher is
-- subscribed, the message without its last brace. The subscribers get it with their number.
local why = refusal()
if why then return why end
local topic = P .. 'topic:' .. ARGV[3]
local clients = total(topic)
if ARGV[5] == '0' and tonumber(ARGV[4]) > 0 and clients >= tonumber(ARGV[4]) then return 'full' end
local entry
for _, instance in ipairs(redis.call('HKEYS', topic)) do
  entry = entry or cmsgpack.pack({'publish', ARGV[3], ARGV[6] .. ',"clients":' .. clients .. '}'})
  push(instance, entry)
end
return 'ok'
