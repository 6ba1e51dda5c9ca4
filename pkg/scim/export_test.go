package scim

import "time"

// Age makes the token older than it is.
func (c *ClientCredentials) Age(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = c.made.Add(-by)
}
