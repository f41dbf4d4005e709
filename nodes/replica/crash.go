package replica

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// CrashAt makes a Config.Crash of "POINT:COUNT": at the COUNTth passage of the
// crash point it calls die. The point may be named without its "after-".
func CrashAt(spec string, die func()) (func(point string), error) {
	name, number, _ := strings.Cut(spec, ":")
	if !strings.HasPrefix(name, "after-") {
		name = "after-" + name
	}
	count, err := strconv.ParseUint(number, 10, 63)
	if err != nil || count == 0 || !slices.Contains(CrashPoints, name) {
		return nil, fmt.Errorf("replica: %q is no crash point and count, as in sync:40; the points are %s", spec, strings.Join(CrashPoints, ", "))
	}
	return func(point string) {
		if point != name {
			return
		}
		if count--; count == 0 {
			die()
		}
	}, nil
}
