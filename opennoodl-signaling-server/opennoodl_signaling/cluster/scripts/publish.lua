-- Send a message to all subscribers of a topic.
-- ARGV: 3 the topic; 4 the most subscribers, 0 for no limit; 5 is 1 if the publisher is a subscriber; 6 the message
--   without its last brace, to which the number of subscribers is appended.
-- Returns 'ok', 'full' if the topic has no room for the publisher, or a refusal.
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
