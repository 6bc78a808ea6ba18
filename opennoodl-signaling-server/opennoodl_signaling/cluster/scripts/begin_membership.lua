-- Make an instance a member.
-- ARGV: 2 the generation that the instance knows, or empty; 3 the run id of the Redis process;
--   4 milliseconds of a lease; 5 milliseconds without joins after Redis has lost its data;
--   6 the same for a Redis that never had data.
-- Returns the generation, and the milliseconds for which no client may join yet. Returns {'fenced', 0} if the instance
-- was swept.
--
-- Another process of Redis may have older data than clients have received. So its data is deleted, and a new generation
-- begins.
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
