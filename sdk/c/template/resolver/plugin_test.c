#include "plugin.c"

#include "edged_test.h"

#define BASE "{\"status\":\"open\",\"notes\":[\"a\"],\"quantity\":5,\"by\":\"x\"}"

int main(void) {
  EDGED_EXPECT(EDGED_TEST_RESOLVE(BASE, "{\"status\":\"done\",\"notes\":[\"a\",\"b\"],\"quantity\":7,\"by\":\"x\"}",
                                  "{\"status\":\"started\",\"notes\":[\"a\",\"c\"],\"quantity\":4,\"by\":\"x\"}"),
               "merged: {\"status\":\"done\",\"notes\":[\"a\",\"c\",\"b\"],\"quantity\":6,\"by\":\"x\"}");
  EDGED_EXPECT(EDGED_TEST_RESOLVE(BASE, "{\"status\":\"open\",\"by\":\"y\"}", "{\"status\":\"open\",\"by\":\"z\"}"),
               "manual: changed on both sides: by");
  EDGED_EXPECT(EDGED_TEST_RESOLVE(BASE, NULL, BASE), "manual: deleted on one side");
  return edged_test_failures;
}
