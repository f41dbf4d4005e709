package agent

// Unpack is for tests from outside.
var Unpack = unpack
