-- Make an instance a member. ARGV: instance, generation that it knows or nothing, run id of the Redis process,
-- milliseconds of a lease, and of the time without newcomers. Another process of Redis may have older data than
-- clients were told, so it starts empty. Return the generation, and how many milliseconds there are no newcomers yet.
local generation = redis.call('GET', P .. 'generation')
if not generation or string.sub(generation, 1, #ARGV[3]) ~= ARGV[3] then
  for _, key in ipairs(redis.call('KEYS', P .. '*')) do redis.call('UNLINK', key) end
  generation = ARGV[3] .. ':' .. string.format('%d', now())
  redis.call('SET', P .. 'generation', generation)
  if tonumber(ARGV[5]) > 0 then redis.call('SET', P .. 'filling', '1', 'PX', ARGV[5]) end
elseif generation == ARGV[2] and not alive(ARGV[1]) then
  return {'fenced', 0}
end
redis.call('ZADD', P .. 'instances', now() + ARGV[4], ARGV[1])
return {generation, math.max(redis.call('PTTL', P .. 'filling'), 0)}
