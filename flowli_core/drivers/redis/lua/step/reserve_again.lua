-- Reserve again, for a step that was sent before. Needs reserve.lua, tokens.lua.

-- Return the batch of a step that was sent before: the records that the worker still holds. Extend their leases.
local function reserve_again(token, ids_text, lease_end, stepping)
  local ids = {}
  for id in string.gmatch(ids_text, '%S+') do
    ids[#ids + 1] = id
  end
  local tokens, blobs, recoveries = read_fields(TOKEN, ids), read_fields(RECORD, ids), read_fields(RECOVERIES, ids)
  for i, id in ipairs(ids) do
    local kind, shape = nil, nil
    if blobs[i] then
      kind, shape = parse_record(blobs[i])
    end
    if kind and is_held(tokens[i], token, stepping) then
      call('ZADD', LEASE, lease_end, id)
      batch.ids[#batch.ids + 1] = id
      batch.blobs[#batch.blobs + 1] = blobs[i]
      batch.has_suspect = batch.has_suspect or number_or(string.match(recoveries[i] or '', '^%d+'), 0) >= shape.max_recoveries
    end
  end
  add_histories(batch.ids, 1)
end
