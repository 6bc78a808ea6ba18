-- Set the number of connections of this instance that a topic or a user has.
-- ARGV: 3 'topic' or 'user', 4 its name, 5 the number.
-- Returns 'ok', or a refusal.
local why = refusal()
if why then return why end
recount(ARGV[3], ARGV[4], ARGV[1], ARGV[5])
if ARGV[3] == 'topic' then offer(ARGV[4]) end
return 'ok'
