package docker

import "time"

// testLease is short: what only a lease heals is healed soon.
const testLease = 2 * time.Second
