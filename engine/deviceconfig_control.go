// This file answers and asks about the device configuration on the control
// socket, and opens it when no edge runs.

package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

const configPath = "/v1/config" // GET lists, PUT sets, DELETE unsets

// answerConfig adds the endpoints of the device configuration.
func (e *Engine) answerConfig(mux *http.ServeMux) {
	mux.HandleFunc("GET "+configPath, func(w http.ResponseWriter, _ *http.Request) { e.answer(w, e.device.List(), nil) })
	mux.HandleFunc("PUT "+configPath, func(w http.ResponseWriter, r *http.Request) {
		var entry ConfigEntry
		// JSON may write each byte as six.
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8*maxConfigValue)).Decode(&entry)
		if err == nil {
			err = e.device.Set(r.Context(), entry.Key, entry.Value)
		}
		if err == nil {
			e.log.Info("the device configuration was changed", "key", entry.Key)
		}
		e.answer(w, struct{}{}, err)
	})
	mux.HandleFunc("DELETE "+configPath, func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Query().Get("key")
		err := e.device.Unset(r.Context(), key)
		if err == nil {
			e.log.Info("the device configuration was changed", "unset", key)
		}
		e.answer(w, struct{}{}, err)
	})
}

// Config lists the device configuration of the edge, by key.
func (c *Client) Config(ctx context.Context) (entries []ConfigEntry, err error) {
	return entries, c.ask(ctx, configPath, &entries)
}

// SetConfig is as [DeviceConfig.Set].
func (c *Client) SetConfig(ctx context.Context, key, value string) error {
	if err := checkConfig(nil, key, value); err != nil {
		return err
	}
	body, err := json.Marshal(ConfigEntry{Key: key, Value: value})
	if err != nil {
		return err
	}
	return c.request(ctx, http.MethodPut, configPath, nil, body, nil)
}

// UnsetConfig is as [DeviceConfig.Unset].
func (c *Client) UnsetConfig(ctx context.Context, key string) error {
	entries, err := c.Config(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Key == key {
			return c.request(ctx, http.MethodDelete, configPath, map[string][]string{"key": {key}}, nil, nil)
		}
	}
	return fmt.Errorf("%w: %s", ErrNoConfigKey, key)
}

// Config is as [Client.Config].
func (s *Store) Config(ctx context.Context) ([]ConfigEntry, error) {
	return readDeviceConfig(ctx, s.nc)
}

// SetConfig is as [DeviceConfig.Set].
func (s *Store) SetConfig(ctx context.Context, key, value string) error {
	device, err := openDeviceConfig(ctx, s.nc)
	if err != nil {
		return err
	}
	return device.Set(ctx, key, value)
}

// UnsetConfig is as [DeviceConfig.Unset].
func (s *Store) UnsetConfig(ctx context.Context, key string) error {
	device, err := openDeviceConfig(ctx, s.nc)
	if err != nil {
		return err
	}
	return device.Unset(ctx, key)
}
