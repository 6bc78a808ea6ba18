-- Pass an invite to every instance of a user. ARGV: instance, generation, address, sender, target, entry, limit of an
-- address, limit of a user; 0 means none. Windows are fixed, as in memory.
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
