-- Send an invite to every instance that has connections of a user.
-- ARGV: 3 the sender's address, 4 the sender, 5 the invited user, 6 the entry, 7 the invites an hour of one address,
--   8 those of one user; 0 means no limit.
-- Returns 'delivered', 'offline', 'limited', or a refusal. An hour begins at a full hour, as in memory.
local why = refusal()
if why then return why end
local window = math.floor(now() / 3600000)
local used = {}
for i, limit in ipairs({tonumber(ARGV[7]), tonumber(ARGV[8])}) do
  used[i] = P .. 'invites:' .. window .. ':' .. i .. ':' .. ARGV[2 + i]
  if limit > 0 and tonumber(redis.call('GET', used[i]) or 0) >= limit then return 'limited' end
end
for i, limit in ipairs({tonumber(ARGV[7]), tonumber(ARGV[8])}) do
  if limit > 0 then
    redis.call('INCR', used[i])
    redis.call('EXPIRE', used[i], 3600)
  end
end
local delivered = 'offline'
for _, instance in ipairs(redis.call('HKEYS', P .. 'user:' .. ARGV[5])) do
  if alive(instance) then
    push(instance, ARGV[6])
    delivered = 'delivered'
  end
end
return delivered
