"""
What the server does in one step for a member of a queue: every change of a pending entry asks first who owns it.

Only Lua, and how its results are read. KEYS[1] is always the log; ARGV[1] the group, ARGV[2] the consumer.
"""

from __future__ import annotations

from mainstem.engines.redis.scripts import lua

# Who has the entry: its deliveries if I have, 0 if another has, -1 if nobody waits for it any more.
_MINE = """
local function mine(id)
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if not found then return -1 end
  if found[2] ~= ARGV[2] then return 0 end
  return math.max(1, found[4])
end
"""

ACK = lua(
    _MINE,
    """
-- ARGV[3]: 1 to delete the entry too; ARGV[4..]: ids. Returns for each 1 acknowledged, 0 another's, -1 gone.
local result = {}
for i = 4, #ARGV do
  local held = mine(ARGV[i])
  if held > 0 then
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
    if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[i]) end
    held = 1
  end
  result[#result + 1] = held
end
return result
""",
)

BACK = lua(
    _MINE,
    """
-- ARGV[3]: idle time in ms to set; ARGV[4]: deliveries to set, '-' for one less, '' for as they are; ARGV[5..]: ids.
-- Returns as ACK.
local result = {}
for i = 5, #ARGV do
  local held = mine(ARGV[i])
  if held > 0 then
    if ARGV[4] == '' then
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'JUSTID')
    else
      local count = ARGV[4] == '-' and held - 1 or ARGV[4]
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'RETRYCOUNT', count, 'JUSTID')
    end
    held = 1
  end
  result[#result + 1] = held
end
return result
""",
)

DEAD = lua(
    _MINE,
    """
-- KEYS[2]: dead letters; ARGV[3]: 1 to delete the entry too; ARGV[4]: id; ARGV[5..]: the letter. As ACK.
local held = mine(ARGV[4])
if held <= 0 then return held end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[4])
if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[4]) end
return 1
""",
)

# Takes over, and tells which of them had been trimmed meanwhile: those leave the pending list with nobody to handle.
_TAKE = """
local function take(ids, deliveries, idle)
  local result = {{}, {}, {}}
  if #ids == 0 then return result end
  local command = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], idle}
  for _, id in ipairs(ids) do command[#command + 1] = id end
  local there = {}
  for _, entry in ipairs(redis.call(unpack(command))) do
    if entry then
      there[entry[1]] = true
      table.insert(result[1], entry)
      table.insert(result[2], deliveries[entry[1]])
    end
  end
  for _, id in ipairs(ids) do
    if not there[id] and #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      redis.call('XACK', KEYS[1], ARGV[1], id)
      table.insert(result[3], id)
    end
  end
  if #result[3] > 0 then redis.pcall('HINCRBY', KEYS[2], 'lost', #result[3]) end
  return result
end
"""

CLAIM = lua(
    _TAKE,
    """
-- KEYS[2]: what the group keeps; ARGV[3]: lease in ms; ARGV[4]: where to look on; ARGV[5]: how many to look at;
-- ARGV[6]: how many to take. An entry that was left behind twice comes alone: it may be what ends its worker.
-- Returns entries, their deliveries, ids that were trimmed, where to look on ('' at the end), 1 if more wait.
local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[4], '+', ARGV[5])
local ids, deliveries, seen, more = {}, {}, '', 0
for _, entry in ipairs(found) do
  if entry[3] >= tonumber(ARGV[3]) then
    local suspect = entry[4] >= 2
    if #ids >= tonumber(ARGV[6]) or (suspect and #ids > 0) then more = 1 break end
    ids[#ids + 1] = entry[1]
    deliveries[entry[1]] = entry[4] + 1
    if suspect then ARGV[6] = '1' end
  end
  seen = entry[1]
end
if more == 0 and #found < tonumber(ARGV[5]) then seen = '' end
local result = take(ids, deliveries, ARGV[3])
result[4], result[5] = seen, more
return result
""",
)

RETAKE = lua(
    _TAKE,
    """
-- KEYS[2]: what the group keeps; ARGV[3..]: ids of mine that are to be delivered once more. As CLAIM, first three.
local ids, deliveries = {}, {}
for i = 3, #ARGV do
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if found and found[2] == ARGV[2] then
    ids[#ids + 1] = ARGV[i]
    deliveries[ARGV[i]] = found[4] + 1
  end
end
return take(ids, deliveries, 0)
""",
)

QUIT = lua("""
-- Deletes my consumer unless something is pending for it: that would be lost for good.
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local pending = 0
  for i = 1, #consumer, 2 do if consumer[i] == 'pending' then pending = consumer[i + 1] end end
  if consumer[2] == ARGV[2] and pending == 0 then
    return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) + 1
  end
end
return 0
""")

TIDY = lua("""
-- Deletes consumers that have nothing pending and were not heard of for ARGV[2] ms; returns how many.
local gone = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  if about['pending'] == 0 and about['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about['name'])
    gone = gone + 1
  end
end
return gone
""")
