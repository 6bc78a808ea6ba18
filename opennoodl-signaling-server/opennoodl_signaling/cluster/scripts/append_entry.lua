-- Append an entry to the stream of another instance.
-- ARGV: 3 the other instance, 4 the entry.
-- Returns 'ok', or a refusal.
local why = refusal()
if why then return why end
push(ARGV[3], ARGV[4])
return 'ok'
