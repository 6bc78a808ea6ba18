-- Set how many connections of this instance a topic or user has. ARGV: instance, generation, `topic` or `user`, name,
-- number.
local why = refusal()
if why then return why end
recount(ARGV[3], ARGV[4], ARGV[1], ARGV[5])
if ARGV[3] == 'topic' then offer(ARGV[4]) end
return 'ok'
