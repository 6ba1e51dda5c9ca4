package scim

import "time"

// Age makes the token older than it is.
func (c *ClientCredentials) Age(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = c.made.Add(-by)
}

// Sharing is how many look-ups wait for the next listing of users.
func (c *Client) Sharing() int {
	c.walks.mu.Lock()
	defer c.walks.mu.Unlock()
	if c.walks.next[KindUser] == nil {
		return 0
	}
	return len(c.walks.next[KindUser].seekers)
}
