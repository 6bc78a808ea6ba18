-- Return 'free' if one of the topics has a place. ARGV: instance, generation, most subscribers, then the topics.
local why = refusal()
if why then return why end
for i = 4, #ARGV do
  if total(P .. 'topic:' .. ARGV[i]) < tonumber(ARGV[3]) then return 'free' end
end
return 'full'
