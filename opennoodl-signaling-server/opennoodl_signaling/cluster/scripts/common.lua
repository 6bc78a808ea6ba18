-- Every script begins with this file.
-- ARGV: 1 the instance that runs the script, 2 the generation of the data that it knows.
-- A script that returns a refusal has changed nothing. In a list, the refusal is the first element.
local P = 'opennoodl:signaling:'
local MAX_MESSAGES, MAX_BYTES, MAX_BYTES_OF_ALL, OVERHEAD = 256, 262144, 67108864, 256
local MAX_ENTRIES, MAX_ENTRY_BYTES = 100000, 268435456

-- Return the time of Redis in milliseconds.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Return a refusal, or nil: 'generation' if Redis has other data than the instance knows, 'fenced' if it was swept.
local function refusal()
  if redis.call('GET', P .. 'generation') ~= ARGV[2] then return 'generation' end
  if not redis.call('ZSCORE', P .. 'instances', ARGV[1]) then return 'fenced' end
end

-- Return whether an instance is a member: its expiry in milliseconds, or false.
local function alive(instance)
  return redis.call('ZSCORE', P .. 'instances', instance)
end

-- Append an entry to the stream of an instance. The ids are consecutive, so a reader detects a gap. The stream keeps
-- MAX_ENTRIES entries, or fewer if the entry is large: MAX_ENTRY_BYTES divided by its size.
local function push(instance, entry)
  if not alive(instance) then return end
  local number = redis.call('INCR', P .. 'number:' .. instance)
  local most = math.min(MAX_ENTRIES, math.floor(MAX_ENTRY_BYTES / #entry))
  redis.call('XADD', P .. 'stream:' .. instance, 'MAXLEN', '~', most, string.format('%d-0', number), 'e', entry)
end

-- Return the key of a mailbox. A mailbox is a list of messages to a peer. The hash of its room has the number of the
-- last message (n:peer) and the bytes of all messages (b:peer).
local function place(room, peer)
  return #room .. ':' .. room .. ':' .. peer
end

-- Delete the oldest message of a mailbox.
local function shrink(room, peer)
  local text = redis.call('LPOP', P .. 'box:' .. place(room, peer))
  local size = #text + OVERHEAD
  redis.call('HINCRBY', P .. 'room:' .. room, 'b:' .. peer, -size)
  redis.call('DECRBY', P .. 'bytes', size)
end

-- Append a message to a mailbox. Return the bytes of the mailbox.
local function grow(room, peer, text)
  local size = #text + OVERHEAD
  redis.call('RPUSH', P .. 'box:' .. place(room, peer), text)
  redis.call('HINCRBY', P .. 'room:' .. room, 'n:' .. peer, 1)
  redis.call('INCRBY', P .. 'bytes', size)
  return redis.call('HINCRBY', P .. 'room:' .. room, 'b:' .. peer, size)
end

-- Append a message for a connected peer to its mailbox. Beyond the limits of the mailbox, or of all mailboxes, delete
-- the oldest messages, as if the peer had received them.
local function log_message(room, peer, text)
  local bytes = grow(room, peer, text)
  local box = P .. 'box:' .. place(room, peer)
  while redis.call('LLEN', box) > MAX_MESSAGES or bytes > MAX_BYTES
      or (tonumber(redis.call('GET', P .. 'bytes')) > MAX_BYTES_OF_ALL and redis.call('LLEN', box) > 0) do
    shrink(room, peer)
    bytes = tonumber(redis.call('HGET', P .. 'room:' .. room, 'b:' .. peer))
  end
end

-- Delete the messages of a mailbox up to a number, which the peer has received.
local function drop(room, peer, number)
  local box = P .. 'box:' .. place(room, peer)
  local last = tonumber(redis.call('HGET', P .. 'room:' .. room, 'n:' .. peer) or 0)
  local first = last - redis.call('LLEN', box) + 1
  while first <= math.min(tonumber(number), last) do
    shrink(room, peer)
    first = first + 1
  end
end

-- Delete a mailbox.
local function wipe(room, peer)
  local bytes = redis.call('HGET', P .. 'room:' .. room, 'b:' .. peer)
  if bytes then redis.call('DECRBY', P .. 'bytes', bytes) end
  redis.call('HDEL', P .. 'room:' .. room, 'n:' .. peer, 'b:' .. peer)
  redis.call('DEL', P .. 'box:' .. place(room, peer))
end

-- Change the number of connections that an instance has of a user or topic. Keep the set of the instance's users or
-- topics up to date; others delete them when the instance is dead.
local function count(kind, name, instance, change)
  local number = redis.call('HINCRBY', P .. kind .. ':' .. name, instance, change)
  if number <= 0 then
    redis.call('HDEL', P .. kind .. ':' .. name, instance)
    redis.call('SREM', P .. kind .. 's:' .. instance, name)
  else
    redis.call('SADD', P .. kind .. 's:' .. instance, name)
  end
end

-- Set this number.
local function recount(kind, name, instance, number)
  count(kind, name, instance, number - (redis.call('HGET', P .. kind .. ':' .. name, instance) or 0))
end

-- Return the sum of the numbers of all instances.
local function total(key)
  local sum = 0
  for _, number in ipairs(redis.call('HVALS', key)) do sum = sum + number end
  return sum
end

-- Tell the connection that has waited longest for a full topic that the topic has room.
local function offer(topic)
  local first = redis.call('ZRANGE', P .. 'waiting:' .. topic, 0, 0)[1]
  if first then
    local instance, connection = string.match(first, '^(%S+) (%d+)$')
    push(instance, cmsgpack.pack({'place', tonumber(connection)}))
  end
end
