package scim

import (
	"context"
	"net/http"
	"time"
)

// Clock asks the target for its time, by the Date header of an answer (RFC 9110 section
// 6.6.1), which counts in seconds, and returns by how much it is ahead of this machine's.
// It says false where the answer has no date, or there is none.
func (c *Client) Clock(ctx context.Context) (ahead time.Duration, said bool, err error) {
	asked := time.Now()
	resp, err := c.do(ctx, c.endpoint(http.MethodGet, configEndpoints[0]))
	if absent(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	between := asked.Add(time.Since(asked) / 2)
	there, err := http.ParseTime(resp.header.Get("Date"))
	if err != nil {
		return 0, false, nil //nolint:nilerr // a target without a clock
	}
	return there.Sub(between), true, nil
}
