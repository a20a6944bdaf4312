-- When was the last write?
SELECT now FROM store;
