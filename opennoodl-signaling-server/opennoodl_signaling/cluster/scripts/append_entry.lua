-- Append an entry to the stream of another instance. ARGV: instance, generation, the other one, entry.
local why = refusal()
if why then return why end
push(ARGV[3], ARGV[4])
return 'ok'
