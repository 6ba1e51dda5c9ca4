package connection

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// parseDuration reads a Go duration that may begin with days: 5s, 1h30m, 30d,
// 1d12h. An empty text and 0 are no duration.
func parseDuration(s string) (time.Duration, error) {
	if s == "" || s == "0" {
		return 0, nil
	}
	var days time.Duration
	rest := s
	if n, tail, ok := strings.Cut(s, "d"); ok {
		count, err := strconv.ParseUint(n, 10, 32)
		if err != nil || count > math.MaxInt64/uint64(day)/2 {
			return 0, errors.New("is no duration")
		}
		days, rest = time.Duration(count)*day, tail
	}
	if rest == "" {
		return days, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, errors.New("is no duration")
	}
	if d < 0 || d > math.MaxInt64-days {
		return 0, errors.New("is out of range")
	}
	return days + d, nil
}

// formatDuration is the inverse of parseDuration: 24h0m0s is 24h.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
