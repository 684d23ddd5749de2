package collect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTextRecords(t *testing.T) {
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	whole := `{"id":"a","device_id":"d","data_type":"t","timestamp":"2026-11-27T07:00:00Z","payload":{"n":1}}`
	for name, c := range map[string]struct {
		text  Text
		data  string
		want  string
		error string
	}{
		"records":         {Text{}, whole + "\n\n" + `{"payload":{"n":2}}` + "\r\n", whole + "\n" + `{"id":"line-3","device_id":"dev","data_type":"reading","timestamp":"2026-11-27T08:00:00Z","payload":{"n":2}}`, ""},
		"an object":       {Text{}, `{"n":3}`, `{"id":"line-1","device_id":"dev","data_type":"reading","timestamp":"2026-11-27T08:00:00Z","payload":{"n":3}}`, ""},
		"payloads":        {Text{Payloads: true}, whole, `{"id":"line-1","device_id":"dev","data_type":"reading","timestamp":"2026-11-27T08:00:00Z","payload":` + whole + `}`, ""},
		"csv":             {Text{CSV: true, Columns: map[string]string{"n": "number"}}, "\ufeffn,s\n1.50,\"a\nb\"\n2,c\n", `{"id":"line-2","device_id":"dev","data_type":"reading","timestamp":"2026-11-27T08:00:00Z","payload":{"n":1.50,"s":"a\nb"}}` + "\n" + `{"id":"line-4","device_id":"dev","data_type":"reading","timestamp":"2026-11-27T08:00:00Z","payload":{"n":2,"s":"c"}}`, ""},
		"no JSON":         {Text{}, whole + "\n{\n", "", "line 2: "},
		"no object":       {Text{Payloads: true}, "[1]", "", "line 1: "},
		"csv, bad number": {Text{CSV: true, Columns: map[string]string{"n": "number"}}, "n\nx\n", "", `line 2: column "n" has "x"`},
		"csv, no column":  {Text{CSV: true, Columns: map[string]string{"m": "number"}}, "n\n1\n", "", `names "m"`},
		"csv, bad type":   {Text{CSV: true, Columns: map[string]string{"n": "int"}}, "n\n1\n", "", `type "int"`},
		"csv, no header":  {Text{CSV: true}, "\n", "", "header line is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			c.text.DeviceID, c.text.Now = "dev", now
			records, err := c.text.Records([]byte(c.data))
			if c.error != "" {
				if err == nil || !strings.Contains(err.Error(), c.error) {
					t.Fatalf("error %v, want %q in it", err, c.error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range records {
				got = append(got, string(records[i].AppendJSON(nil)))
			}
			if diff := cmp.Diff(strings.Split(c.want, "\n"), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
