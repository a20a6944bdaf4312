-- Store a wake-up for each of some queues.
-- Needs: shared/columns shared/wake_up
-- ARGV[first..]: the queues.
-- Answers nothing.
-- First write: ZADD wake.
for i = first, #ARGV do
  wake_up(ARGV[i])
end
