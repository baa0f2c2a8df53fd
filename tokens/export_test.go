package tokens

// CoveredBy is revoked, for tests that have a state.
var CoveredBy = revoked
