package identity

// HOTP is hotp for the tests of those who have an authenticator.
var HOTP = hotp
