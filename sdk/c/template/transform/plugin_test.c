#include "plugin.c"

#include "edged_test.h"

int main(void) {
  EDGED_EXPECT(EDGED_TEST_CONFIGURE("{\"from\":\"t\"}"), "");
  EDGED_EXPECT(EDGED_TEST_TRANSFORM("{\"t\":20}"), "emit payload={\"t\":20,\"fahrenheit\":68}\n");
  EDGED_EXPECT(EDGED_TEST_TRANSFORM("{\"t\":-1}"), "emit payload={\"t\":-1,\"fahrenheit\":30.2}\nemit type=frost\n");
  EDGED_EXPECT(EDGED_TEST_TRANSFORM("{\"x\":1}"), "error: there is no temperature\n");
  EDGED_EXPECT(EDGED_TEST_CONFIGURE("{\"form\":\"t\"}"), "unknown key form; there are: from, to");
  return edged_test_failures;
}
