package state

// Never is a lifetime without an end as records hold it, in seconds: a hundred years, so
// that no sum with it overflows and no date is beyond what readers of tokens take.
const Never int64 = 100 * 366 * 86_400
