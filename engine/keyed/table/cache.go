package table

import "container/list"

// cache keeps the values that were used last, up to a number of bytes. Its owner
// locks it.
type cache struct {
	most, used int
	order      *list.List // of *cached, the newest first
	items      map[string]*list.Element
}

type cached struct {
	name  string
	value []byte
}

func newCache(most int) cache {
	return cache{most: most, order: list.New(), items: map[string]*list.Element{}}
}

func (c *cache) get(name string) ([]byte, bool) {
	item, ok := c.items[name]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(item)
	return item.Value.(*cached).value, true
}

func (c *cache) put(name string, value []byte) {
	c.remove(name)
	c.items[name] = c.order.PushFront(&cached{name, value})
	c.used += len(name) + len(value) + overhead
	for c.used > c.most && c.order.Len() > 0 {
		c.remove(c.order.Back().Value.(*cached).name)
	}
}

func (c *cache) remove(name string) {
	item, ok := c.items[name]
	if !ok {
		return
	}
	v := c.order.Remove(item).(*cached)
	delete(c.items, name)
	c.used -= len(v.name) + len(v.value) + overhead
}
