-- Make an instance a member. ARGV: instance, generation that it knows or nothing, run id of the Redis process,
-- milliseconds of a lease, of the time without newcomers after Redis has lost its data, and of that in a Redis without
-- data. Another process of Redis may have older data than clients were told, so it starts empty. Return the generation,
-- and how many milliseconds there are no newcomers yet.
local generation = redis.call('GET', P .. 'generation')
if not generation or string.sub(generation, 1, #ARGV[3]) ~= ARGV[3] then
  local never_used = not generation and ARGV[2] == ''
  local fill = never_used and ARGV[6] or ARGV[5]
  for _, key in ipairs(redis.call('KEYS', P .. '*')) do redis.call('UNLINK', key) end
  generation = ARGV[3] .. ':' .. string.format('%d', now())
  redis.call('SET', P .. 'generation', generation)
  if tonumber(fill) > 0 then redis.call('SET', P .. 'filling', '1', 'PX', fill) end
elseif generation == ARGV[2] and not alive(ARGV[1]) then
  return {'fenced', 0}
end
redis.call('ZADD', P .. 'instances', now() + ARGV[4], ARGV[1])
return {generation, math.max(redis.call('PTTL', P .. 'filling'), 0)}
