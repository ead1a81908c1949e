// What the smoke tests have in common.
import java.util.Objects;
import java.util.function.BooleanSupplier;

final class Check {
    private Check() {}

    static void equal(Object expected, Object actual) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError("expected " + expected + ", got " + actual);
        }
    }

    static void that(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** Runs something that has to fail with a message that starts so. */
    static void refused(String start, Runnable work) {
        try {
            work.run();
        } catch (RuntimeException error) {
            that(error.getMessage().startsWith(start), "another error: " + error.getMessage());
            return;
        }
        throw new AssertionError("was not refused with " + start);
    }

    /** Waits until it is so. */
    static void until(String what, BooleanSupplier holds) throws InterruptedException {
        for (int left = 2000; !holds.getAsBoolean(); left--) {
            that(left > 0, "never came: " + what);
            Thread.sleep(5);
        }
    }
}
