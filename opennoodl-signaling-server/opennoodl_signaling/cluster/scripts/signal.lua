-- Send a signal to a peer.
-- ARGV: 3 the room, 4 the sender, 5 its connection, 6 the receiver, 7 the requestId, 8 the message.
-- Returns 'sent', 'held' if the receiver is absent and its mailbox has the signal, 'full' if the mailbox has no room,
-- 'unknown' if there is no such receiver, 'not-in-room' if the sender is not there, or a refusal.
local why = refusal()
if why then return why end
local room = P .. 'room:' .. ARGV[3]
local sender = redis.call('HGET', room, 'p:' .. ARGV[4])
local instance, connection, kind, arrival = string.match(sender or '', '^(%S+) (%d+) (%a) (%d+)')
if instance ~= ARGV[1] or connection ~= ARGV[5] then return 'not-in-room' end
local receiver = redis.call('HGET', room, 'p:' .. ARGV[6])
if not receiver then return 'unknown' end
local number, bytes, _
instance, connection, kind, _, number, bytes = string.match(receiver, '^(%S+) (%d+) (%a) (%d+) (%d+) (%d+)$')
local text = cmsgpack.pack({'signal', ARGV[4], tonumber(arrival), ARGV[7], ARGV[8]})
if kind == 'a' then
  local has = redis.call('HMGET', room, 'n:' .. ARGV[6], 'b:' .. ARGV[6])
  if (has[1] or 0) - number >= MAX_MESSAGES or (has[2] or 0) - bytes + #text + OVERHEAD > MAX_BYTES
      or (redis.call('GET', P .. 'bytes') or 0) + #text > MAX_BYTES_OF_ALL then
    return 'full'
  end
  grow(ARGV[3], ARGV[6], text)
  return 'held'
end
if not alive(instance) then return 'unknown' end
if kind == 'r' then log_message(ARGV[3], ARGV[6], text) end
push(instance, cmsgpack.pack({'signal', tonumber(connection), ARGV[8], ARGV[1], tonumber(ARGV[5]), ARGV[7], ARGV[6]}))
return 'sent'
