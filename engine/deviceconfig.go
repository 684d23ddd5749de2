package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	gosync "sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/expr"
)

const (
	configBucket = "EDGED_CONFIG"
	// maxConfigValue and maxConfigBytes bound one value and all keys and values
	// together, in bytes: they are held in memory (I9).
	maxConfigValue = 64 << 10
	maxConfigBytes = 1 << 20
	// maxConfigMarkers is how many marks of keys that were unset may gather in the
	// bucket.
	maxConfigMarkers = 1000
)

// ErrNoConfigKey says that a key of the device configuration is not set.
var ErrNoConfigKey = errors.New("this key is not set")

// ConfigEntry is one key of the device configuration.
type ConfigEntry struct {
	Key   string    `json:"key"`
	Value string    `json:"value"`
	Set   time.Time `json:"set"` // when it was last set
}

// DeviceConfig is what an operator has set on this device: text by key, durable
// when Set returns. Pipelines read it with config(), plugins with config_get.
// Its methods may be called from any goroutine; the engine is the only writer.
type DeviceConfig struct {
	kv      jetstream.KeyValue
	writing gosync.Mutex
	entries atomic.Pointer[map[string]ConfigEntry] // replaced, never changed
}

// openDeviceConfig opens the bucket, making it when it is not there.
func openDeviceConfig(ctx context.Context, nc *nats.Conn) (*DeviceConfig, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: configBucket, MaxBytes: 4 * maxConfigBytes})
	if err != nil {
		return nil, fmt.Errorf("opening the device configuration: %w", err)
	}
	c := &DeviceConfig{kv: kv}
	if err := c.load(ctx); err != nil {
		return nil, fmt.Errorf("reading the device configuration: %w", err)
	}
	if err := c.clear(ctx); err != nil {
		return nil, fmt.Errorf("clearing the device configuration: %w", err)
	}
	return c, nil
}

// readDeviceConfig is openDeviceConfig for looking only: it makes nothing.
func readDeviceConfig(ctx context.Context, nc *nats.Conn) ([]ConfigEntry, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, configBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return []ConfigEntry{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the device configuration: %w", err)
	}
	c := &DeviceConfig{kv: kv}
	if err := c.load(ctx); err != nil {
		return nil, fmt.Errorf("reading the device configuration: %w", err)
	}
	return c.List(), nil
}

func (c *DeviceConfig) load(ctx context.Context) error {
	entries := map[string]ConfigEntry{}
	keys, err := c.kv.ListKeys(ctx)
	if err != nil {
		return err
	}
	for key := range keys.Keys() {
		entry, err := c.kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		entries[key] = ConfigEntry{Key: key, Value: string(entry.Value()), Set: entry.Created().UTC()}
	}
	c.entries.Store(&entries)
	return nil
}

// clear removes the marks of keys that were unset, when they have become many.
func (c *DeviceConfig) clear(ctx context.Context) error {
	status, err := c.kv.Status(ctx)
	if err != nil {
		return err
	}
	if status.Values() < uint64(len(*c.entries.Load())+maxConfigMarkers) {
		return nil
	}
	return c.kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(-1))
}

// Lookup returns the value of a key and whether it is set, from memory. The
// bytes are the caller's.
func (c *DeviceConfig) Lookup(key string) ([]byte, bool) {
	text, ok := c.Text(key)
	return []byte(text), ok
}

// Text is Lookup without a copy.
func (c *DeviceConfig) Text(key string) (string, bool) {
	entry, ok := (*c.entries.Load())[key]
	return entry.Value, ok
}

// List returns every entry, by key.
func (c *DeviceConfig) List() []ConfigEntry {
	return slices.SortedFunc(maps.Values(*c.entries.Load()), func(a, b ConfigEntry) int { return cmp.Compare(a.Key, b.Key) })
}

// Set sets a key, and returns when that is durable and seen by every reader. It
// refuses keys and values that are not allowed or do not fit.
func (c *DeviceConfig) Set(ctx context.Context, key, value string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	old := *c.entries.Load()
	if err := checkConfig(old, key, value); err != nil {
		return err
	}
	if _, err := c.kv.PutString(ctx, key, value); err != nil {
		return fmt.Errorf("setting %s: %w", key, err)
	}
	entries := maps.Clone(old)
	entries[key] = ConfigEntry{Key: key, Value: value, Set: time.Now().UTC()}
	c.entries.Store(&entries)
	return nil
}

func checkConfig(entries map[string]ConfigEntry, key, value string) error {
	if err := expr.CheckConfigKey(key); err != nil {
		return err
	}
	if len(value) > maxConfigValue {
		return fmt.Errorf("a value has at most %d bytes, this one has %d", maxConfigValue, len(value))
	}
	if !utf8.ValidString(value) {
		return errors.New("a value is UTF-8 text, and this one is not; encode it, as base64 for example")
	}
	size := len(key) + len(value)
	for _, e := range entries {
		if e.Key != key {
			size += len(e.Key) + len(e.Value)
		}
	}
	if size > maxConfigBytes {
		return fmt.Errorf("all keys and values together have at most %d bytes, and would have %d with this one", maxConfigBytes, size)
	}
	return nil
}

// Unset removes a key, and returns when that is durable and seen by every
// reader. A key that is not set is [ErrNoConfigKey].
func (c *DeviceConfig) Unset(ctx context.Context, key string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	old := *c.entries.Load()
	if _, ok := old[key]; !ok {
		return fmt.Errorf("%w: %s", ErrNoConfigKey, key)
	}
	if err := c.kv.Delete(ctx, key); err != nil {
		return fmt.Errorf("unsetting %s: %w", key, err)
	}
	entries := maps.Clone(old)
	delete(entries, key)
	c.entries.Store(&entries)
	return nil
}

// DeviceConfig returns the device configuration.
func (e *Engine) DeviceConfig() *DeviceConfig { return e.device }
