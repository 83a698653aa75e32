-- noted: what scripts share that put entries into a lane's queue.
-- An entry that was noted as held by an outage has its order less NOTED for a score: noted ones are first, in their order, and those with
-- a score of 0 or more are exactly those that are not noted, in whichever order they came and from wherever they came back.
local NOTED = 4503599627370496 -- 2^52: above every order (a time in microseconds), and still exact
