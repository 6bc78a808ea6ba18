-- Find out whether one of some topics has room for a subscriber.
-- ARGV: 3 the most subscribers of a topic, then the topics.
-- Returns 'free' or 'full', or a refusal.
local why = refusal()
if why then return why end
for i = 4, #ARGV do
  if total(P .. 'topic:' .. ARGV[i]) < tonumber(ARGV[3]) then return 'free' end
end
return 'full'
