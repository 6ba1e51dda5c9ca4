package scim

import (
	"context"
	"fmt"
)

// Count asks the target how many resources of a kind it has, by a page of one. It says
// false where the target does not tell, as targets that list by cursor need not.
func (c *Client) Count(ctx context.Context, kind Kind) (number int, said bool, err error) {
	p, err := c.listing(kind, ListOptions{PageSize: 1}).page(ctx, 1)
	if err != nil {
		return 0, false, fmt.Errorf("count the %ss: %w", kind, err)
	}
	return p.total.number, p.total.said, nil
}
